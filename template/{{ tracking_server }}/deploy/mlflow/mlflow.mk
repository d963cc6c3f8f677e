.PHONY: mlflow move-store

mlflow: ## run the tracking server on this machine, without containers (ARGS="--port 5001")
	$(RUN) python scripts/mlflow_server.py $(ARGS)

move-store: ## move runs and models from mlflow.db to a new server; docs/mlflow_server.md
	$(RUN) python scripts/move_store.py $(ARGS)
