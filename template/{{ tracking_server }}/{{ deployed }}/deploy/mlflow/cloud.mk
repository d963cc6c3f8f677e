# The tracking server in the cloud; docs/mlflow_hosting.md says how to sign in.
HOSTING := $(RUN) python -m $(PACKAGE).operate.tracking_server

.PHONY: mlflow-plan mlflow-apply mlflow-image mlflow-upgrade

mlflow-plan: ## say what Terraform would change of the team's tracking server
	$(HOSTING) plan $(ARGS)

mlflow-apply: ## let Terraform make or change what is in deploy/mlflow/terraform
	$(HOSTING) apply $(ARGS)

mlflow-image: ## build and push the tracking server's image (MLFLOW_VERSION: as in uv.lock)
	$(HOSTING) image

mlflow-upgrade: ## bring the tracking server's tables up to its image in the .tfvars
	$(HOSTING) upgrade $(ARGS)
