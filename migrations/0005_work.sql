-- What workers, the api and maintenance may do.
GRANT SELECT ON ledger.message, ledger.content, ledger.recipient, ledger.event, ledger.batch_key, ledger.delivery,
    ledger.worker_heartbeat, ledger.dot_in_flight, ledger.incarnation, ledger.verdict_cache, ledger.address_index
    TO zegel_worker;
GRANT INSERT, UPDATE, DELETE ON ledger.delivery, ledger.worker_heartbeat, ledger.dot_in_flight, ledger.verdict_cache,
    ledger.address_index TO zegel_worker;
GRANT INSERT, DELETE ON ledger.content TO zegel_worker;
GRANT INSERT ON ledger.event, ledger.batch_key TO zegel_worker;
GRANT INSERT, UPDATE ON ledger.message, ledger.recipient TO zegel_worker;
GRANT EXECUTE ON FUNCTION ledger.current_incarnation, ledger.uuid_v7 TO zegel_worker;

-- The api reads metadata: no content, no content key.
GRANT SELECT (id, tenant, accepted_at, ruleset, size, frames, recipients, deliveries, open_deliveries, metadata_key_id,
              metadata_key_index, wrapped_metadata_key, sealed_envelope, reports_on, withdrawn_at, shredded_at)
    ON ledger.message TO zegel_api;
GRANT SELECT ON ledger.recipient, ledger.event, ledger.metadata_batch_key, ledger.incarnation, ledger.address_index TO zegel_api;
GRANT SELECT (message_id, no, tenant, lane, state, due, attempts, possible_duplicate) ON ledger.delivery TO zegel_api;

-- Messages whose frames came but whose end never did, for at least the given time; answers how many it swept.
CREATE FUNCTION ledger.sweep_uploads(idle interval, at_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    swept uuid[];
BEGIN
    SELECT array_agg(u.message_id) INTO swept FROM (
        SELECT message_id FROM ledger.upload WHERE touched_at < clock_timestamp() - idle
        LIMIT at_most FOR UPDATE SKIP LOCKED) u;
    DELETE FROM ledger.content WHERE message_id = ANY (swept);
    DELETE FROM ledger.upload WHERE message_id = ANY (swept);
    RETURN coalesce(cardinality(swept), 0);
END $$;

-- Replay tags and their keys past the window (a day that began more than 48 hours ago).
CREATE FUNCTION ledger.forget_old_tags(at_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM ledger.replay WHERE tag IN (
        SELECT tag FROM ledger.replay WHERE accepted_at < clock_timestamp() - interval '48 hours' LIMIT at_most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    DELETE FROM control.replay_key WHERE day < (now() AT TIME ZONE 'UTC')::date - 1;
    RETURN gone;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ledger TO zegel_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger TO zegel_admin;
REVOKE ALL ON FUNCTION ledger.sweep_uploads, ledger.forget_old_tags FROM PUBLIC;
