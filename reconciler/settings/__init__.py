"""`tidegate.yaml`, what a policy repository says of itself: the file, and its sections. Pure."""

from reconciler.settings.repository import SETTINGS_PATH, Settings, read_settings

__all__ = ["SETTINGS_PATH", "Settings", "read_settings"]
