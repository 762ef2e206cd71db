from alembic import context
from sqlalchemy import MetaData, create_engine


def is_included(name, kind, parent_names):
    """Keeps autogenerate from proposing to drop the ledger."""
    return not (kind == 'schema' and name == 'billing')


engine = create_engine(context.config.get_main_option('sqlalchemy.url'))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=MetaData(),  # of your models
                      include_schemas=True, include_name=is_included)
    with context.begin_transaction():
        context.run_migrations()
