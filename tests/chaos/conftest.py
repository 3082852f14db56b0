"""The same Arqive as in the integration tests; here its processes are hurt."""

from tests.integration.conftest import (  # noqa: F401 - fixtures
    _invariants,
    backend,
    run_worker,
    settings,
)
