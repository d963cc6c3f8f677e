# What `make mlflow-image` adds to the image of compose.yaml.
COPY --chmod=0644 auth.ini /etc/mlflow/auth.ini
