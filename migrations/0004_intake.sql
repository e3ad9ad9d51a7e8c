-- What an edge may do: add rows, and call these functions. It reads back no content, key or address.
GRANT INSERT (id, tenant, accepted_at, ruleset, size, frames, recipients, deliveries, open_deliveries, keyed_digest,
              batch_key_id, batch_key_index, wrapped_message_key, metadata_key_id, metadata_key_index,
              wrapped_metadata_key, sealed_envelope) ON ledger.message TO zegel_edge;
GRANT INSERT (message_id, frame_no, sealed) ON ledger.content TO zegel_edge;
GRANT INSERT (message_id, rcpt_no, delivery_no, sealed_address) ON ledger.recipient TO zegel_edge;
GRANT INSERT (id, tenant, message_id, rcpt_no, kind, at, reason_code, sealed_detail) ON ledger.event TO zegel_edge;
GRANT INSERT (message_id, no, tenant, lane, due) ON ledger.delivery TO zegel_edge;
GRANT INSERT (id, tenant, purpose, epoch, created_at, wrapped) ON ledger.batch_key TO zegel_edge;
GRANT INSERT (tag, message_id, accepted_at) ON ledger.replay TO zegel_edge;

-- This timeline's incarnation, written by the first writer on a new leader.
CREATE FUNCTION ledger.current_incarnation() RETURNS uuid LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    line int := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
    found uuid;
BEGIN
    SELECT i.id INTO found FROM ledger.incarnation i WHERE i.timeline = line;
    IF found IS NULL THEN
        INSERT INTO ledger.incarnation (id, timeline, first_xid)
            VALUES (gen_random_uuid(), line, pg_current_xact_id()) ON CONFLICT (timeline) DO NOTHING;
        SELECT i.id INTO found FROM ledger.incarnation i WHERE i.timeline = line;
        -- Leases were counted on the clock of a server that is gone.
        UPDATE ledger.worker_heartbeat SET lease_until = clock_timestamp() + interval '15 seconds';
    END IF;
    RETURN found;
END $$;

-- Frames of large content were added in this transaction: `frames` is the number that should be there after it.
CREATE FUNCTION ledger.touch_uploads(ids uuid[], tenants text[], frame_counts int[]) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    line uuid := ledger.current_incarnation();
BEGIN
    INSERT INTO ledger.upload AS u (message_id, tenant, incarnation, frames)
        SELECT i, t, line, f FROM unnest(ids, tenants, frame_counts) AS n(i, t, f)
        ON CONFLICT (message_id) DO UPDATE SET frames = excluded.frames, touched_at = clock_timestamp()
            WHERE u.incarnation = excluded.incarnation;
END $$;

-- The message row of an upload is written in this transaction: locks it against the sweeper, and refuses (ZG001) when frames are
-- missing or a takeover may have lost some.
CREATE FUNCTION ledger.finish_uploads(ids uuid[], frame_counts int[]) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    line uuid := ledger.current_incarnation();
    whole int;
BEGIN
    WITH locked AS (
        SELECT u.message_id FROM ledger.upload u JOIN unnest(ids, frame_counts) AS n(i, f) ON u.message_id = n.i
        WHERE u.incarnation = line AND u.frames = n.f FOR UPDATE OF u
    ), gone AS (
        DELETE FROM ledger.upload u USING locked WHERE u.message_id = locked.message_id RETURNING 1
    ) SELECT count(*) INTO whole FROM gone;
    IF whole <> cardinality(ids) THEN
        RAISE EXCEPTION 'an upload is not whole' USING ERRCODE = 'ZG001';
    END IF;
END $$;

-- A client broke off: its frames go now, not with the sweeper.
CREATE FUNCTION ledger.abandon_upload(of_message uuid) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
    PERFORM 1 FROM ledger.upload WHERE message_id = of_message FOR UPDATE;
    IF FOUND THEN
        DELETE FROM ledger.content WHERE message_id = of_message;
        DELETE FROM ledger.upload WHERE message_id = of_message;
    END IF;
END $$;

-- Which of these messages are there (and stand): the answer to "did that commit happen?".
CREATE FUNCTION ledger.known_messages(ids uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    SELECT m.id FROM ledger.message m WHERE m.id = ANY (ids) AND m.withdrawn_at IS NULL
$$;

-- Which of these batch keys are there.
CREATE FUNCTION ledger.known_batch_keys(ids uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    SELECT b.id FROM ledger.batch_key b WHERE b.id = ANY (ids)
$$;

-- The clients sent something after their 250: they have it, so the same bytes again are a new message.
CREATE FUNCTION ledger.forget_tags(tags bytea[]) RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    DELETE FROM ledger.replay WHERE tag = ANY (tags)
$$;

-- The same bytes and envelope again: answers the first one's id, and makes it stand. Null: there is none (any more).
CREATE FUNCTION ledger.replay_of(of_tag bytea) RETURNS uuid LANGUAGE sql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    UPDATE ledger.replay SET replayed_at = clock_timestamp() WHERE tag = of_tag RETURNING message_id
$$;

-- Takes back messages whose client is about to be told 451; answers those that really were taken back. Not one that was claimed or
-- replayed: somebody relies on it.
CREATE FUNCTION ledger.withdraw(ids uuid[], event_ids uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    one uuid; event_id uuid; of_tenant text;
BEGIN
    FOR one, event_id IN SELECT i, e FROM unnest(ids, event_ids) AS n(i, e) ORDER BY i LOOP
        PERFORM 1 FROM ledger.delivery WHERE message_id = one ORDER BY no FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        CONTINUE WHEN EXISTS (SELECT 1 FROM ledger.delivery WHERE message_id = one AND (fence > 0 OR state <> 'ready'));
        PERFORM 1 FROM ledger.replay WHERE message_id = one FOR UPDATE;
        CONTINUE WHEN EXISTS (SELECT 1 FROM ledger.replay WHERE message_id = one AND replayed_at IS NOT NULL);
        DELETE FROM ledger.replay WHERE message_id = one;
        DELETE FROM ledger.delivery WHERE message_id = one;
        DELETE FROM ledger.content WHERE message_id = one;
        UPDATE ledger.recipient SET state = 'withdrawn' WHERE message_id = one;
        UPDATE ledger.message SET withdrawn_at = clock_timestamp(), open_deliveries = 0, wrapped_message_key = NULL
            WHERE id = one RETURNING tenant INTO of_tenant;
        INSERT INTO ledger.event (id, tenant, message_id, kind, at)
            VALUES (event_id, of_tenant, one, 'withdrawn', clock_timestamp());
        RETURN NEXT one;
    END LOOP;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.current_incarnation, ledger.touch_uploads, ledger.finish_uploads, ledger.abandon_upload,
    ledger.known_messages, ledger.known_batch_keys, ledger.forget_tags, ledger.replay_of, ledger.withdraw TO zegel_edge;
