# What `make mlflow-image` adds to the image of compose.yaml.
USER 0
RUN pip install --no-cache-dir "google-cloud-storage>=3"
COPY --from=docker.io/library/caddy:2.10.2 /usr/bin/caddy /usr/local/bin/caddy
COPY --chmod=0644 auth.ini Caddyfile /etc/mlflow/
USER 10001
