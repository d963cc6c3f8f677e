# Releases, the same on every cloud; docs/deployment.md tells the order.
RELEASE := $(RUN) release
IMAGE ?= $(PACKAGE):local
MODEL_SOURCE ?= baked
ENV ?=
TO ?=
REASON ?=
VERSION ?=
NEEDS_ENV = $(if $(filter staging production,$(ENV)),,$(error Say which: ENV=staging or ENV=production))

.PHONY: image image-smoke sbom release-bundle monitoring-image release-build release-deploy releases unlock

image: ## build the image here (MODEL_SOURCE=registry: without the model in it)
	docker build --platform linux/amd64 --file deploy/Dockerfile --target $(MODEL_SOURCE) --tag $(IMAGE) .

image-smoke: ## run the image read-only, without rights and with limits, and ask it
	$(RELEASE) try $(IMAGE)

sbom: ## list the locked packages that the image is made of, as CycloneDX, in sbom.json
	$(UV) export --quiet --frozen --no-default-groups --no-emit-project --format cyclonedx1.5 --preview-features sbom-export --output-file sbom.json

release-bundle: ## write the bundle of a version to bundle/, whatever its stage (VERSION=3)
	$(if $(VERSION),,$(error Say which: VERSION=3; `make status` lists them))$(RELEASE) bundle --version "$(VERSION)" --out $(OUT)

release-build: ## build the image of this commit and bundle/, push it, write release.json
	$(NEEDS_ENV)$(RELEASE) build --env $(ENV)

monitoring-image: ## build and push the image that compares predictions with the reference
	$(NEEDS_ENV)$(RELEASE) monitoring --env $(ENV)

release-deploy: ## take release.json through smoke and canary to all traffic, or back
	$(NEEDS_ENV)$(RELEASE) deploy --env $(ENV)

releases: ## say what serves, who is releasing and what happened
	$(NEEDS_ENV)$(RELEASE) status --env $(ENV)

unlock: ## put back what a killed release left, and free its lock
	$(NEEDS_ENV)$(RELEASE) unlock --env $(ENV)
