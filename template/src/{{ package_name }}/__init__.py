"""The model, the pipeline that makes it, and the service that answers with it."""
