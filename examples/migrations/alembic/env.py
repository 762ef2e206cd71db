from alembic import context
from sqlalchemy import MetaData, create_engine

engine = create_engine(context.config.get_main_option('sqlalchemy.url'))
with engine.connect() as connection:
    # Of your own models. Autogenerate looks at no other schema than the search path's
    # first, unless include_schemas is set: then leave out "billing" with include_name.
    context.configure(connection=connection, target_metadata=MetaData())
    with context.begin_transaction():
        context.run_migrations()
