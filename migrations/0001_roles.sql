-- Four roles, each with the least it needs. They log in only once an operator (or `zegel local up`) has given them a password.
-- A role belongs to the whole PostgreSQL cluster, so it may be there already: a second database in one cluster is no fault.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['zegel_edge', 'zegel_worker', 'zegel_api', 'zegel_admin'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;

CREATE SCHEMA control;
GRANT USAGE ON SCHEMA control, ledger TO zegel_edge, zegel_worker, zegel_api, zegel_admin;
GRANT SELECT ON ledger.schema_migration TO zegel_edge, zegel_worker, zegel_api, zegel_admin;

-- Nobody creates objects here but the owner; names resolve without a prefix for whoever looks by hand.
DO $$
BEGIN
    EXECUTE format('REVOKE CREATE ON SCHEMA public FROM PUBLIC');
    EXECUTE format('ALTER DATABASE %I SET search_path = ledger, control, public', current_database());
END $$;

-- Settings of a role in this database. Batches look rows up by key arrays: a plan that scans a partition because its statistics
-- are young would be a cliff. A long snapshot of the api on a member bloats the leader (hot_standby_feedback).
DO $$
DECLARE setting text;
BEGIN
    FOREACH setting IN ARRAY ARRAY[
        'zegel_worker:enable_seqscan:off', 'zegel_worker:enable_hashjoin:off', 'zegel_worker:enable_mergejoin:off',
        'zegel_worker:plan_cache_mode:force_generic_plan', 'zegel_worker:idle_in_transaction_session_timeout:60s',
        'zegel_edge:idle_in_transaction_session_timeout:60s', 'zegel_api:statement_timeout:10s',
        'zegel_api:idle_in_transaction_session_timeout:10s', 'zegel_api:default_transaction_read_only:on']
    LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %I = %L', split_part(setting, ':', 1), current_database(),
                       split_part(setting, ':', 2), split_part(setting, ':', 3));
    END LOOP;
END $$;
