"""The platform's version; nothing is imported here, so that `import difflm` stays cheap."""

__version__ = "0.1.0"
