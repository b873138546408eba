# A stand-in for the image apicurio/apicurio-registry: the same program from Maven Central, and the curl of its health check.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends curl && rm -rf /var/lib/apt/lists/*
COPY java /opt/java
COPY registry /opt/registry
WORKDIR /opt/registry
USER 1000:1000
CMD ["sh", "-c", "exec /opt/java/bin/java -Dquarkus.http.host=0.0.0.0 -Djava.util.logging.manager=org.jboss.logmanager.LogManager $JAVA_OPTS_APPEND -jar quarkus-run.jar"]
