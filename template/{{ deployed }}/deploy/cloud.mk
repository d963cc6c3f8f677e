# What exists around the service; docs/deployment.md says how to sign in.
OPERATE := $(RUN) python -m $(PACKAGE).operate

.PHONY: bootstrap doctor plan apply github destroy

bootstrap: ## make what Terraform and GitHub need to begin (ARGS=--yes: really; else say what)
	$(NEEDS_ENV)$(OPERATE) bootstrap --env $(ENV) $(ARGS)

doctor:: ## check sign-in, trust, roles, variables and reviewers, and print each fix
	$(NEEDS_ENV)$(OPERATE) doctor --env $(ENV)

plan: ## say what Terraform would change
	$(NEEDS_ENV)$(OPERATE) plan --env $(ENV) $(ARGS)

apply: ## let Terraform make or change what is in deploy/terraform
	$(NEEDS_ENV)$(OPERATE) apply --env $(ENV) $(ARGS)

github: ## copy Terraform's outputs to the variables of GitHub's environment
	$(NEEDS_ENV)$(OPERATE) github --env $(ENV)

destroy: ## destroy an environment, list what is left, and fail if anything is
	$(NEEDS_ENV)$(OPERATE) destroy --env $(ENV) $(ARGS)
