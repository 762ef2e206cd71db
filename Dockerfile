# Builds an image of PostgreSQL with usage_ledger, based on the official image:
#
#   docker build --build-arg POSTGRES=17 --tag usage_ledger .
#   docker run --env POSTGRES_PASSWORD=secret --env POSTGRES_DB=app usage_ledger
#
# A new database has the extension in the schema billing, and the worker settles it if it is
# named app. The tests have no Docker: test/tools/dockerfile.sh runs these instructions in a root
# of Debian.
ARG POSTGRES=17

FROM postgres:$POSTGRES AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make "postgresql-server-dev-$PG_MAJOR"
WORKDIR /usr/src/usage_ledger
COPY . .
# Objects built outside the image may be for another server.
RUN make -f Makefile.pgxs clean \
    && make -f Makefile.pgxs \
    && make -f Makefile.pgxs install DESTDIR=/installed

FROM postgres:$POSTGRES
COPY --from=build /installed/ /
RUN printf '%s\n' 'CREATE SCHEMA billing;' 'CREATE EXTENSION usage_ledger SCHEMA billing;' \
    > /docker-entrypoint-initdb.d/usage_ledger.sql
CMD ["postgres", "-c", "shared_preload_libraries=usage_ledger", "-c", "usage_ledger.settle_databases=app"]
