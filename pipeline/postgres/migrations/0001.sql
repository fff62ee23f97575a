-- Format 1: tables, and the functions that make one commit one round trip. Run once, inside the transaction that records
-- it in `format`, with the schema as the only entry of the search path.
--
-- messages.id = channel << 48 | partition << 40 | number, slot = channel << 32 | group << 16 | partition and
-- partition = channel << 8 | partition, as in the embedded store: a partition is one ascending run of the primary key.
-- Keys, ids, owners and subs are raw bytes; bodies and values are sealed, so they are stored without trying to compress.

CREATE TABLE channels(channel integer PRIMARY KEY, partitions integer NOT NULL);

-- One row a partition, locked by every commit that appends to it until that commit is durable: numbers have no gaps and
-- follow the order of commits. Few rows on a page and no index on what changes, so that an update stays on its page.
CREATE TABLE partitions(partition bigint PRIMARY KEY, last bigint NOT NULL)
  WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Up to where messages were deleted. A table of its own, so that deleting never waits for a commit.
CREATE TABLE trims(partition bigint PRIMARY KEY, trimmed bigint NOT NULL)
  WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE messages(id bigint PRIMARY KEY, key bytea NOT NULL, message bytea NOT NULL, body bytea NOT NULL)
  WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
        toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 10000);
ALTER TABLE messages ALTER COLUMN body SET STORAGE EXTERNAL;

-- `token` names the last step that was applied, so that a step whose answer was lost is not applied twice.
CREATE TABLE slots(slot bigint PRIMARY KEY, position bigint NOT NULL DEFAULT 0, settled bigint NOT NULL DEFAULT 0,
  owner bytea, epoch bigint NOT NULL DEFAULT 0, until bigint NOT NULL DEFAULT 0, clean boolean NOT NULL DEFAULT true,
  token bytea)
  WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE owners(grp integer NOT NULL, owner bytea NOT NULL, until bigint NOT NULL, PRIMARY KEY(grp, owner));

CREATE TABLE attempts(slot bigint NOT NULL, number bigint NOT NULL, count bigint NOT NULL, PRIMARY KEY(slot, number));

CREATE TABLE state(space integer NOT NULL, owner bytea NOT NULL, sub bytea NOT NULL, value bytea NOT NULL,
  PRIMARY KEY(space, owner, sub))
  WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE state ALTER COLUMN value SET STORAGE EXTERNAL;

CREATE TABLE timers(slot bigint NOT NULL, key bytea NOT NULL, name text COLLATE "C" NOT NULL, due bigint NOT NULL,
  channel integer NOT NULL, message_key bytea NOT NULL, message bytea NOT NULL, body bytea NOT NULL,
  PRIMARY KEY(slot, key, name))
  WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX timers_due ON timers(slot, due, key, name);
ALTER TABLE timers ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE parked(slot bigint NOT NULL, number bigint NOT NULL, key bytea NOT NULL, message bytea NOT NULL,
  due bigint NOT NULL, attempt bigint NOT NULL, job_spec bytea, job_result bytea, job_starts bigint NOT NULL,
  body bytea NOT NULL, PRIMARY KEY(slot, number))
  WITH (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE parked ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE dead(channel integer NOT NULL, partition integer NOT NULL, number bigint NOT NULL, grp integer NOT NULL,
  key bytea NOT NULL, message bytea NOT NULL, code text NOT NULL, attempts bigint NOT NULL, at bigint NOT NULL,
  body bytea NOT NULL, PRIMARY KEY(channel, partition, number, grp));
ALTER TABLE dead ALTER COLUMN body SET STORAGE EXTERNAL;

-- Gives the next `many` numbers of a partition and returns the last of them. The row stays locked until the commit.
CREATE FUNCTION take_numbers(which bigint, many bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE top bigint;
BEGIN
  UPDATE partitions p SET last = p.last + many WHERE p.partition = which RETURNING p.last INTO top;
  IF top IS NULL OR top >= (1::bigint << 40) THEN
    RAISE EXCEPTION 'no such partition, or its numbers are used up' USING ERRCODE = 'ZG001';
  END IF;
  RETURN top;
END $$;

-- Applies steps and publishes messages, all in the caller's transaction. Every array of a family (s, w, m, …) has the same
-- length; the `step` columns are 1-based indices into the family s, and 0 for messages that belong to no step.
-- outcomes[i]: -1 applied, -2 the epoch is not the slot's, -3 applied before (its token is there), else the stored
-- position, which the step's is not above. A step that is not applied leaves nothing. grown and lasts: partitions that
-- got messages, and their last numbers. Locks are taken in the order: slots ascending, rows of the slots, partitions
-- ascending; partitions last, because others wait for them.
CREATE FUNCTION commit_group(
  s_slot bigint[], s_epoch bigint[], s_position bigint[], s_token bytea[],
  w_step integer[], w_space integer[], w_owner bytea[], w_sub bytea[], w_value bytea[],
  t_step integer[], t_key bytea[], t_name text[], t_due bigint[], t_channel integer[], t_message_key bytea[],
  t_message bytea[], t_body bytea[],
  k_step integer[], k_number bigint[], k_key bytea[], k_message bytea[], k_due bigint[], k_attempt bigint[],
  k_spec bytea[], k_result bytea[], k_starts bigint[], k_body bytea[],
  d_step integer[], d_channel integer[], d_partition integer[], d_number bigint[], d_grp integer[], d_key bytea[],
  d_message bytea[], d_code text[], d_attempts bigint[], d_at bigint[], d_body bytea[],
  a_step integer[], a_slot bigint[], a_number bigint[],
  m_step integer[], m_partition bigint[], m_key bytea[], m_message bytea[], m_body bytea[],
  OUT outcomes bigint[], OUT grown bigint[], OUT lasts bigint[]) LANGUAGE plpgsql AS $$
DECLARE
  found_slot slots%ROWTYPE;
  wanted record;
  top bigint;
  firsts bigint[] := '{}';
  ids bigint[];
BEGIN
  outcomes := '{}'; grown := '{}'; lasts := '{}';
  FOR i IN 1 .. cardinality(s_slot) LOOP
    SELECT * INTO found_slot FROM slots WHERE slot = s_slot[i] FOR UPDATE;
    IF found_slot.token = s_token[i] THEN
      outcomes := outcomes || -3::bigint;
    ELSIF found_slot.owner IS NULL OR found_slot.epoch <> s_epoch[i] THEN
      outcomes := outcomes || -2::bigint;
    ELSIF s_position[i] <= found_slot.position THEN
      outcomes := outcomes || found_slot.position;
    ELSE
      outcomes := outcomes || -1::bigint;
      UPDATE slots SET token = s_token[i], position = coalesce(s_position[i], position) WHERE slot = s_slot[i];
      IF s_position[i] IS NOT NULL THEN
        DELETE FROM attempts WHERE slot = s_slot[i] AND number > found_slot.position AND number <= s_position[i];
      END IF;
    END IF;
  END LOOP;

  IF cardinality(w_step) > 0 THEN
    DELETE FROM state USING unnest(w_step, w_space, w_owner, w_sub, w_value) AS w(step, space, owner, sub, value)
      WHERE outcomes[w.step] = -1 AND w.value IS NULL
        AND state.space = w.space AND state.owner = w.owner AND state.sub = w.sub;
    INSERT INTO state(space, owner, sub, value)
      SELECT w.space, w.owner, w.sub, w.value
      FROM unnest(w_step, w_space, w_owner, w_sub, w_value) AS w(step, space, owner, sub, value)
      WHERE outcomes[w.step] = -1 AND w.value IS NOT NULL
      ON CONFLICT (space, owner, sub) DO UPDATE SET value = excluded.value;
  END IF;
  IF cardinality(t_step) > 0 THEN
    DELETE FROM timers USING unnest(t_step, t_key, t_name, t_due) AS t(step, key, name, due)
      WHERE outcomes[t.step] = -1 AND t.due IS NULL
        AND timers.slot = s_slot[t.step] AND timers.key = t.key AND timers.name = t.name;
    INSERT INTO timers(slot, key, name, due, channel, message_key, message, body)
      SELECT s_slot[t.step], t.key, t.name, t.due, t.channel, t.message_key, t.message, t.body
      FROM unnest(t_step, t_key, t_name, t_due, t_channel, t_message_key, t_message, t_body)
        AS t(step, key, name, due, channel, message_key, message, body)
      WHERE outcomes[t.step] = -1 AND t.due IS NOT NULL
      ON CONFLICT (slot, key, name) DO UPDATE SET due = excluded.due, channel = excluded.channel,
        message_key = excluded.message_key, message = excluded.message, body = excluded.body;
  END IF;
  IF cardinality(k_step) > 0 THEN
    DELETE FROM parked USING unnest(k_step, k_number, k_key) AS k(step, number, key)
      WHERE outcomes[k.step] = -1 AND k.key IS NULL
        AND parked.slot = s_slot[k.step] AND parked.number = k.number;
    INSERT INTO parked(slot, number, key, message, due, attempt, job_spec, job_result, job_starts, body)
      SELECT s_slot[k.step], k.number, k.key, k.message, k.due, k.attempt, k.spec, k.result, k.starts, k.body
      FROM unnest(k_step, k_number, k_key, k_message, k_due, k_attempt, k_spec, k_result, k_starts, k_body)
        AS k(step, number, key, message, due, attempt, spec, result, starts, body)
      WHERE outcomes[k.step] = -1 AND k.key IS NOT NULL
      ON CONFLICT (slot, number) DO UPDATE SET key = excluded.key, message = excluded.message, due = excluded.due,
        attempt = excluded.attempt, job_spec = excluded.job_spec, job_result = excluded.job_result,
        job_starts = excluded.job_starts, body = excluded.body;
  END IF;
  IF cardinality(d_step) > 0 THEN
    INSERT INTO dead(channel, partition, number, grp, key, message, code, attempts, at, body)
      SELECT d.channel, d.partition, d.number, d.grp, d.key, d.message, d.code, d.attempts, d.at, d.body
      FROM unnest(d_step, d_channel, d_partition, d_number, d_grp, d_key, d_message, d_code, d_attempts, d_at, d_body)
        AS d(step, channel, partition, number, grp, key, message, code, attempts, at, body)
      WHERE outcomes[d.step] = -1
      ON CONFLICT (channel, partition, number, grp) DO UPDATE SET key = excluded.key, message = excluded.message,
        code = excluded.code, attempts = excluded.attempts, at = excluded.at, body = excluded.body;
  END IF;
  IF cardinality(a_step) > 0 THEN
    DELETE FROM attempts USING unnest(a_step, a_slot, a_number) AS a(step, slot, number)
      WHERE outcomes[a.step] = -1 AND attempts.slot = a.slot AND attempts.number = a.number;
  END IF;

  IF cardinality(m_step) > 0 THEN
    FOR wanted IN
      SELECT m.partition, count(*) AS many FROM unnest(m_step, m_partition) AS m(step, partition)
      WHERE m.step = 0 OR outcomes[m.step] = -1 GROUP BY m.partition ORDER BY m.partition
    LOOP
      top := take_numbers(wanted.partition, wanted.many);
      grown := grown || wanted.partition;
      lasts := lasts || top;
      firsts := firsts || (top - wanted.many);
    END LOOP;
    -- Numbers are given on narrow rows; the bodies are looked at once, when they are inserted.
    SELECT array_agg(n.id ORDER BY n.place) INTO ids FROM (
      SELECT m.place, CASE WHEN m.taken THEN (m.partition << 40)
          | (g.first + row_number() OVER (PARTITION BY m.taken, m.partition ORDER BY m.place)) END AS id
      FROM (SELECT place, partition, step = 0 OR outcomes[step] = -1 AS taken
            FROM unnest(m_step, m_partition) WITH ORDINALITY AS u(step, partition, place)) AS m
        LEFT JOIN unnest(grown, firsts) AS g(partition, first) ON g.partition = m.partition) AS n;
    INSERT INTO messages(id, key, message, body)
      SELECT m.id, m.key, m.message, m.body FROM unnest(ids, m_key, m_message, m_body) AS m(id, key, message, body)
      WHERE m.id IS NOT NULL;
  END IF;
END $$;

-- Takes a dead letter and the parked row by which it holds its key away, and produces a message when `target` is a
-- partition. `last` is that partition's last number. The slot's row comes first, as in commit_group.
CREATE FUNCTION resolve_dead(of_slot bigint, of_channel integer, of_partition integer, of_number bigint, of_grp integer,
  target bigint, new_key bytea, new_message bytea, new_body bytea, OUT resolved boolean, OUT last bigint)
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM slots WHERE slot = of_slot FOR UPDATE;
  DELETE FROM dead WHERE channel = of_channel AND partition = of_partition AND number = of_number AND grp = of_grp;
  resolved := FOUND;
  IF resolved THEN
    DELETE FROM parked WHERE slot = of_slot AND number = of_number;
    IF target IS NOT NULL THEN
      last := take_numbers(target, 1);
      INSERT INTO messages(id, key, message, body) VALUES ((target << 40) | last, new_key, new_message, new_body);
    END IF;
  END IF;
END $$;

-- Keeps what subscriptions settled, and deletes at most `most` messages that every one of these slots has passed. Another
-- process that does the same is not waited for. `up_to` is null when that was so, else the last number that is gone.
CREATE FUNCTION trim_partition(which bigint, of_slots bigint[], of_settled bigint[], most bigint,
  OUT removed bigint, OUT up_to bigint) LANGUAGE plpgsql AS $$
DECLARE
  passed bigint;
BEGIN
  removed := 0;
  SELECT trimmed INTO up_to FROM trims WHERE partition = which FOR UPDATE SKIP LOCKED;
  IF up_to IS NULL THEN RETURN; END IF;
  FOR i IN 1 .. cardinality(of_slots) LOOP
    UPDATE slots SET settled = of_settled[i] WHERE slot = of_slots[i] AND settled < of_settled[i]
      AND position < of_settled[i];
  END LOOP;
  SELECT min(greatest(position, settled)) INTO passed FROM slots WHERE slot = ANY(of_slots);
  SELECT least(passed, last, up_to + most) INTO passed FROM partitions WHERE partition = which;
  IF passed > up_to THEN
    DELETE FROM messages WHERE id > ((which << 40) | up_to) AND id <= ((which << 40) | passed);
    GET DIAGNOSTICS removed = ROW_COUNT;
    UPDATE trims SET trimmed = passed WHERE partition = which;
    up_to := passed;
  END IF;
END $$;

-- See Store::announce: remembers that this owner serves the group, forgets the group's owners whose time has run out, lists
-- who is left.
CREATE FUNCTION announce(of_group integer, me bytea, at bigint, till bigint) RETURNS SETOF bytea LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO owners(grp, owner, until) VALUES (of_group, me, till)
    ON CONFLICT (grp, owner) DO UPDATE SET until = excluded.until;
  DELETE FROM owners WHERE grp = of_group AND owner IN
    (SELECT owner FROM owners WHERE grp = of_group AND until < at FOR UPDATE SKIP LOCKED);
  RETURN QUERY SELECT owner FROM owners WHERE grp = of_group AND until >= at ORDER BY owner;
END $$;
