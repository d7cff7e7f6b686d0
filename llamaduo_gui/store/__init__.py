"""The project database: schema, migrations and queries."""
