# A stand-in for the image apache/kafka: the embedded Kafka's jars and Java runtime.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
# The volume of docker-compose.yml begins as this directory, and so belongs to the user who writes it.
RUN useradd --uid 1000 --no-log-init --home-dir /opt/kafka kafka \
    && install -d -o 1000 -g 1000 /opt/kafka/config /var/lib/kafka/data
COPY java /opt/java
COPY jars /opt/kafka/jars
COPY start-kafka /opt/kafka/start-kafka
USER 1000:1000
CMD ["bash", "/opt/kafka/start-kafka"]
