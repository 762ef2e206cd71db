# The steps to an image of PostgreSQL with usage_ledger, on the official image:
#
#   docker build --build-arg POSTGRES=17 --tag usage_ledger .
#
# This is documentation: the project's tests do not run it.
ARG POSTGRES=17

FROM postgres:$POSTGRES AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make "postgresql-server-dev-$PG_MAJOR"
WORKDIR /usr/src/usage_ledger
COPY . .
# What was built outside the image may be for another server.
RUN make -f Makefile.pgxs clean \
    && make -f Makefile.pgxs \
    && make -f Makefile.pgxs install DESTDIR=/installed

FROM postgres:$POSTGRES
COPY --from=build /installed/ /
# The background worker, if it is wanted:
# CMD ["postgres", "-c", "shared_preload_libraries=usage_ledger", "-c", "usage_ledger.settle_databases=app"]
