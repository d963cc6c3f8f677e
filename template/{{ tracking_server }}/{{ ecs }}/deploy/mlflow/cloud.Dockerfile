# What `make mlflow-image` adds to the image of compose.yaml.
COPY auth.ini /etc/mlflow/auth.ini
