"""The `ringmaster` command."""

__all__ = ["main"]


def main() -> None:
    """Run the command line; does not return."""
    from ringmaster.cli.app import app  # noqa: PLC0415 - the services import this package without the commands

    app()
