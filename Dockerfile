# Builds an image of PostgreSQL with usage_ledger, based on the official image:
#
#   docker build --build-arg POSTGRES=17 --tag usage_ledger .
#
# This is an example. The project's tests do not run it.
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
# To run the background worker:
# CMD ["postgres", "-c", "shared_preload_libraries=usage_ledger", "-c", "usage_ledger.settle_databases=app"]
