"""What every test may ask for is in farandole.pytest_plugin: `kafka`, `kafka_cluster`, `namespace`."""
