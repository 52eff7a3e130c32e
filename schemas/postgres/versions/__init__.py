"""Migrations, one file each, applied in order by `schemas.postgres.migrate`."""
