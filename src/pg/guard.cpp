/*
 * guard.cpp: the event trigger usage_ledger_guard. It refuses changes to the extension's
 * objects that a dump and restore would lose or stumble over.
 *
 * pg_dump leaves the definitions of an extension's objects to CREATE EXTENSION, and dumps the
 * rows, rights and names as they are. So a column of the user's own makes a restore fail, and a
 * trigger is silently missing afterwards. How rows are stored, replicated and protected may
 * be changed: a restored ledger works without that too.
 */
#include "pg/postgres.hpp"

#include "pg/spi.hpp"

namespace usage_ledger
{

namespace
{

constexpr const char *extension_name = "usage_ledger";

bool is_member(Oid class_id, Oid object_id)
{
    const Oid extension = get_extension_oid(extension_name, true);
    return OidIsValid(extension) && OidIsValid(object_id) &&
           getExtensionOfObject(class_id, object_id) == extension;
}

bool is_member(const RangeVar *relation)
{
    return relation != nullptr &&
           is_member(RelationRelationId, RangeVarGetRelid(relation, NoLock, true));
}

[[noreturn]] void refuse(const char *object, const char *detail, const char *hint)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("cannot change \"%s\", which belongs to extension usage_ledger", object),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

[[noreturn]] void refuse_definition(const RangeVar *relation)
{
    refuse(relation->relname,
           "A dump has no definitions of an extension's tables: it would lose this one, or fail "
           "to be restored.",
           "Keep your own data about events in a table of your own, with the account and key of "
           "the event.");
}

[[noreturn]] void refuse_code(const RangeVar *relation)
{
    refuse(relation->relname,
           "A dump has no triggers and rules of an extension's tables, so a restored database "
           "would lack this one.",
           "Write to a table of your own in the transaction of the call, or follow usage_events by "
           "logical replication.");
}

[[noreturn]] void refuse_move(const char *object)
{
    refuse(object,
           "A dump would contain the new name, and CREATE EXTENSION creates the old one: the dump "
           "cannot be restored.",
           "Rename the schema. The whole ledger keeps working in it.");
}

/* Whether a subcommand of ALTER TABLE leaves alone which values a row has. */
bool keeps_rows(AlterTableType subcommand)
{
    switch (subcommand) {
    case AT_SetStatistics:
    case AT_SetOptions:
    case AT_ResetOptions:
    case AT_SetStorage:
    case AT_SetCompression:
    case AT_ChangeOwner:
    case AT_ClusterOn:
    case AT_DropCluster:
    case AT_SetLogged:
    case AT_SetTableSpace:
    case AT_SetAccessMethod:
    case AT_SetRelOptions:
    case AT_ResetRelOptions:
    case AT_EnableTrig:
    case AT_EnableAlwaysTrig:
    case AT_EnableReplicaTrig:
    case AT_DisableTrig:
    case AT_EnableTrigAll:
    case AT_DisableTrigAll:
    case AT_EnableTrigUser:
    case AT_DisableTrigUser:
    case AT_ReplicaIdentity:
    case AT_EnableRowSecurity:
    case AT_DisableRowSecurity:
    case AT_ForceRowSecurity:
    case AT_NoForceRowSecurity:
        return true;
    default:
        return false;
    }
}

void check_alter_table(const AlterTableStmt *statement)
{
    if (!is_member(statement->relation)) {
        return;
    }
    ListCell *cell;
    foreach (cell, statement->cmds) {
        if (!keeps_rows(lfirst_node(AlterTableCmd, cell)->subtype)) {
            refuse_definition(statement->relation);
        }
    }
}

bool is_member_function(ObjectType type, Node *object)
{
    return (type == OBJECT_FUNCTION || type == OBJECT_ROUTINE) &&
           is_member(ProcedureRelationId,
                     LookupFuncWithArgs(type, castNode(ObjectWithArgs, object), true));
}

void check_move(ObjectType type, const RangeVar *relation, Node *object)
{
    if (type == OBJECT_TABLE || type == OBJECT_VIEW) {
        if (is_member(relation)) {
            refuse_move(relation->relname);
        }
    } else if (is_member_function(type, object)) {
        refuse_move(strVal(llast(castNode(ObjectWithArgs, object)->objname)));
    }
}

void check_rename(const RenameStmt *statement)
{
    if (statement->renameType != OBJECT_COLUMN) {
        check_move(statement->renameType, statement->relation, statement->object);
    } else if (is_member(statement->relation)) {
        refuse_definition(statement->relation);
    }
}

bool names_extension(const DropStmt *statement)
{
    ListCell *cell;
    foreach (cell, statement->objects) {
        if (strcmp(strVal(lfirst(cell)), extension_name) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * A column whose type is the row type of one of the extension's tables keeps the server from
 * dropping the extension. The server suggests CASCADE, which would drop the column.
 */
void check_drop_extension(const DropStmt *statement)
{
    static const char *const sql =
        "SELECT pg_catalog.string_agg(pg_catalog.format('Column %I of table %s has type %s.',"
        " a.attname, a.attrelid::pg_catalog.regclass,"
        " pg_catalog.format_type(a.atttypid, NULL)), E'\\n'"
        " ORDER BY a.attrelid, a.attnum)"
        " FROM pg_catalog.pg_depend AS member"
        " JOIN pg_catalog.pg_type AS t ON t.typrelid OPERATOR(pg_catalog.=) member.objid"
        " JOIN pg_catalog.pg_depend AS use"
        " ON use.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass"
        " AND (use.refobjid OPERATOR(pg_catalog.=) t.oid"
        " OR use.refobjid OPERATOR(pg_catalog.=) t.typarray)"
        " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) use.objid"
        " AND c.relkind IN ('r', 'p', 'f')"
        " JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) use.objid"
        " AND a.attnum OPERATOR(pg_catalog.=) use.objsubid"
        " WHERE use.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
        " AND member.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
        " AND member.refclassid OPERATOR(pg_catalog.=)"
        " 'pg_catalog.pg_extension'::pg_catalog.regclass"
        " AND member.refobjid OPERATOR(pg_catalog.=) $1";

    const Oid extension = get_extension_oid(extension_name, true);
    if (statement->removeType != OBJECT_EXTENSION || !OidIsValid(extension) ||
        !names_extension(statement)) {
        return;
    }
    Oid types[] = {OIDOID};
    Datum arguments[] = {ObjectIdGetDatum(extension)};
    SPI_connect();
    if (SPI_execute_with_args(sql, 1, types, arguments, nullptr, true, 0) != SPI_OK_SELECT) {
        elog(ERROR, "could not look for columns of the extension's row types");
    }
    if (!column_is_null(1)) {
        ereport(ERROR,
                (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                 errmsg("cannot drop extension usage_ledger, because tables contain its rows"),
                 errdetail("%s", TextDatumGetCString(required_column(1))),
                 errhint("Convert the columns first, for example with ALTER TABLE ... ALTER COLUMN "
                         "... TYPE jsonb USING to_jsonb(...).")));
    }
    SPI_finish();
}

void check_command(Node *command)
{
    switch (nodeTag(command)) {
    case T_AlterTableStmt:
        check_alter_table(castNode(AlterTableStmt, command));
        break;
    case T_AlterObjectSchemaStmt: {
        const auto *statement = castNode(AlterObjectSchemaStmt, command);
        check_move(statement->objectType, statement->relation, statement->object);
        break;
    }
    case T_RenameStmt:
        check_rename(castNode(RenameStmt, command));
        break;
    case T_ViewStmt: {
        const auto *statement = castNode(ViewStmt, command);
        if (statement->replace && is_member(statement->view)) {
            refuse_definition(statement->view);
        }
        break;
    }
    case T_IndexStmt: {
        const auto *statement = castNode(IndexStmt, command);
        if (statement->unique && is_member(statement->relation)) {
            refuse_definition(statement->relation);
        }
        break;
    }
    case T_CreateTrigStmt: {
        const auto *statement = castNode(CreateTrigStmt, command);
        if (is_member(statement->relation)) {
            refuse_code(statement->relation);
        }
        break;
    }
    case T_RuleStmt: {
        const auto *statement = castNode(RuleStmt, command);
        if (is_member(statement->relation)) {
            refuse_code(statement->relation);
        }
        break;
    }
    case T_DropStmt:
        check_drop_extension(castNode(DropStmt, command));
        break;
    default:
        break;
    }
}

} // namespace

} // namespace usage_ledger

extern "C" {

PG_FUNCTION_INFO_V1(usage_ledger_guard);

Datum usage_ledger_guard(PG_FUNCTION_ARGS)
{
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo)) {
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("usage_ledger_guard was not called as an event trigger")));
    }
    /* The extension's own scripts may change everything. */
    if (!creating_extension) {
        usage_ledger::check_command(
            reinterpret_cast<EventTriggerData *>(fcinfo->context)->parsetree);
    }
    PG_RETURN_VOID();
}
}
