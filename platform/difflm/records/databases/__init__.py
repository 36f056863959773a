"""Tables of databases, read into Arrow and written from it through SQLAlchemy."""
