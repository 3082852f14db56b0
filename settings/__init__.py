"""The only reader of the environment."""

from settings.api_keys import MAX_RATE, MIN_RATE, ApiKeyEntry, parse_entries
from settings.settings import Settings, SettingsError, load_settings

__all__ = ["MAX_RATE", "MIN_RATE", "ApiKeyEntry", "Settings", "SettingsError", "load_settings", "parse_entries"]
