# An image that runs all of it:  docker build -t radstack .      (a small one without CUDA: --build-arg LOCK=requirements-cpu.txt)
#   docker run --rm radstack                                     the demo of ich
#   docker run --rm radstack bash run_tests.sh                   the tests; installs their tools first (--build-arg TOOLS=1: once)
#   docker run --rm --gpus all --shm-size 16g -v "$PWD:/data" radstack bash run_all.sh ich --data-dir /data --out-dir /data
#   docker run --rm -v "$PWD:/data" radstack python /data/bundles/ich/predict.py /data/FOLDER /data/answers.csv
FROM python:3.11-slim-bookworm
ARG LOCK=requirements.txt
ARG TOOLS=
# LightGBM and torch want the OpenMP library that the slim image lacks.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /radstack
ENV RADSTACK_LOCK=${LOCK} PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 PATH=/radstack/.venv/bin:$PATH
COPY requirements.txt requirements-cpu.txt requirements-dev.txt setup.sh ./
RUN RADSTACK_TOOLS=${TOOLS} bash -c "source setup.sh"
COPY . .
CMD ["bash", "run_all.sh"]
