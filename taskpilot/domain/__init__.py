"""The language of the deployment: frozen dataclasses, enums and errors that every room may speak."""
