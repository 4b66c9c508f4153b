"""Commands that draw the dashboard's pages without a server."""

import logging

CACHES = ("streamlit.runtime.caching.cache_data_api", "streamlit.runtime.caching.cache_resource_api")


def expect_no_server() -> None:
    """Keep Streamlit's warning that no server runs from standard error: call it before the first
    import of a page.

    A filter, because `STREAMLIT_LOGGER_LEVEL` is read by `streamlit run` alone, and a level that is
    set before Streamlit's import is set anew by it.
    """
    for name in CACHES:
        logging.getLogger(name).addFilter(_is_no_matter_of_servers)


def _is_no_matter_of_servers(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No runtime found")
