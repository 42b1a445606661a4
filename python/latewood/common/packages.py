"""Optional packages: imported on use, and reported with the command that installs them."""

from importlib import import_module
from typing import Any

from latewood.errors import MissingDependencyError


def import_optional(name: str, *, extra: str | None = None, purpose: str) -> Any:
    """Import module `name`, or raise `MissingDependencyError` that says what to install.

    Parameters
    ----------
    name : str
        Dotted module name.
    extra : str, optional
        The extra of this package that brings it in; without one, the package itself is named.
    purpose : str
        What it is needed for: the start of the message.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".", maxsplit=1)[0]
        requirement = f"'latewood[{extra}]'" if extra else package.replace("_", "-")
        message = f"{purpose} needs the package {package!r}: pip install {requirement}"
        raise MissingDependencyError(message) from error
