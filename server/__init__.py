"""The microservice."""
