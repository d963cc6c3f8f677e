"""What a release may be built from: with the model in the image, or fetched from the registry."""

TARGETS = ("baked", "registry")
