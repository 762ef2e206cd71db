# The tests of the build run on files that are not installed yet. PostgreSQL 15 to 17
# finds them there by a setting of Debian's (extension_destdir), but does not list them
# in pg_available_extension_versions, where the test "upgrade" looks for its versions.
# The autopkgtest runs all tests.
REGRESS := $(filter-out upgrade,$(REGRESS))
