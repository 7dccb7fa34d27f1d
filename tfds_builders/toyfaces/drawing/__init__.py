"""Drawing of the toyfaces characters."""
