"""What people give: tables, tools, code, models and bundles, found, checked and read."""
