# CPU:   docker build -t listenwell .
# CUDA:  docker build --build-arg TORCH=cuda -t listenwell:cuda .      (run it with --gpus all)
# Use:   docker run --rm -v "$PWD:/work" -v listenwell-cache:/cache listenwell detect meeting.wav
FROM python:3.11-slim-bookworm
ARG TORCH=cpu
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /listenwell
COPY . .
RUN make env TORCH=${TORCH} && rm -rf /root/.cache/pip
ENV PATH=/listenwell/.venv/bin:$PATH LISTENWELL_CACHE=/cache
WORKDIR /work
ENTRYPOINT ["listenwell"]
