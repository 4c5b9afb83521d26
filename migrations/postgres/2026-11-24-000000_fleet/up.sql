-- Keys that pages are ordered by are compared byte by byte (COLLATE "C"), as SQLite does and as cursors are written.
-- Every identifier is made by the server and grows with time (src/rng.rs). Times are microseconds since 1970, UTC.

-- What runners, tokens and tasks belong to: the instance, an account, or a repository of an account. The three kinds share one
-- table so that one foreign key and one loader serve them all, and so that deleting an account takes everything with it.
CREATE TABLE scopes (
    id BIGINT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('GLOBAL', 'ORGANIZATION', 'USER', 'REPOSITORY')),
    -- The owner of a repository; of an account, the instance.
    parent_id BIGINT REFERENCES scopes (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    -- The path in lower case: logins and names are unique without regard to case.
    path_key TEXT NOT NULL COLLATE "C" UNIQUE,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX scopes_parent ON scopes (parent_id, path_key, id);

INSERT INTO scopes (id, kind, parent_id, path, path_key, name, created_at, updated_at)
VALUES (1, 'GLOBAL', NULL, '', '', 'This instance', 0, 0);

CREATE TABLE users (
    id BIGINT PRIMARY KEY NOT NULL REFERENCES scopes (id) ON DELETE CASCADE,
    -- Argon2id; none for accounts that only use access tokens.
    password_hash TEXT,
    is_admin BOOLEAN NOT NULL
);

CREATE TABLE organization_members (
    organization_id BIGINT NOT NULL REFERENCES scopes (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('OWNER', 'MEMBER')),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX organization_members_user ON organization_members (user_id, organization_id);

CREATE TABLE access_tokens (
    id BIGINT PRIMARY KEY NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- Names of scopes with commas between.
    scopes TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX access_tokens_user ON access_tokens (user_id, id);

CREATE TABLE registration_tokens (
    id BIGINT PRIMARY KEY NOT NULL,
    scope_id BIGINT NOT NULL REFERENCES scopes (id) ON DELETE CASCADE,
    description TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    ephemeral_only BOOLEAN NOT NULL,
    max_uses BIGINT,
    use_count BIGINT NOT NULL,
    -- Networks with commas between; empty: any.
    allowed_cidrs TEXT NOT NULL,
    -- Labels with commas between.
    labels TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    revoked_reason TEXT,
    last_used_at BIGINT,
    last_used_from TEXT,
    created_by BIGINT REFERENCES users (id) ON DELETE SET NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX registration_tokens_scope ON registration_tokens (scope_id, id);
CREATE INDEX registration_tokens_creator ON registration_tokens (created_by);

CREATE TABLE runners (
    id BIGINT PRIMARY KEY NOT NULL,
    uuid TEXT NOT NULL UNIQUE,
    scope_id BIGINT NOT NULL REFERENCES scopes (id) ON DELETE CASCADE,
    -- The account above the scope, or the instance: who may see a runner is decided by this column alone.
    owner_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL COLLATE "C",
    description TEXT NOT NULL,
    note TEXT NOT NULL,
    version TEXT,
    os TEXT,
    arch TEXT,
    ephemeral BOOLEAN NOT NULL,
    disabled BOOLEAN NOT NULL,
    -- What the machine calls itself: the same machine takes its old record over instead of leaving a duplicate.
    machine_id TEXT,
    token_hash TEXT NOT NULL,
    -- Counts the tokens it has had; a session names the one it was opened under.
    token_generation BIGINT NOT NULL,
    token_issued_at BIGINT NOT NULL,
    previous_token_hash TEXT,
    previous_valid_until BIGINT,
    registered_with BIGINT REFERENCES registration_tokens (id) ON DELETE SET NULL,
    registered_from TEXT,
    -- The shadow of presence, written behind. 0: never.
    last_online_at BIGINT NOT NULL,
    last_active_at BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('OFFLINE', 'IDLE', 'ACTIVE')),
    status_since BIGINT NOT NULL,
    transition_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX runners_machine ON runners (scope_id, machine_id) WHERE machine_id IS NOT NULL;
CREATE INDEX runners_scope ON runners (scope_id, id);
CREATE INDEX runners_scope_name ON runners (scope_id, name_key, id);
CREATE INDEX runners_scope_online ON runners (scope_id, last_online_at, id);
CREATE INDEX runners_owner ON runners (owner_id, id);
CREATE INDEX runners_owner_name ON runners (owner_id, name_key, id);
CREATE INDEX runners_owner_online ON runners (owner_id, last_online_at, id);
CREATE INDEX runners_name ON runners (name_key, id);
CREATE INDEX runners_online ON runners (last_online_at, id);
CREATE INDEX runners_token ON runners (registered_with, id);

CREATE TABLE runner_labels (
    runner_id BIGINT NOT NULL REFERENCES runners (id) ON DELETE CASCADE,
    label TEXT NOT NULL COLLATE "C",
    -- Given by the registration token: neither the runner nor a manager takes it away.
    forced BOOLEAN NOT NULL,
    PRIMARY KEY (runner_id, label)
);
CREATE INDEX runner_labels_label ON runner_labels (label, runner_id);

-- The last changes of a runner's status, a ring of 20: slot = number modulo 20.
CREATE TABLE runner_transitions (
    runner_id BIGINT NOT NULL REFERENCES runners (id) ON DELETE CASCADE,
    slot BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    from_status TEXT NOT NULL,
    to_status TEXT NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (runner_id, slot)
);

COMMENT ON TABLE scopes IS 'What runners, tokens and tasks belong to: the instance, an account, or a repository of an account.';
COMMENT ON TABLE runners IS 'Registered runners. Status and last_* are the shadow of the presence that the server holds in memory.';
COMMENT ON TABLE runner_transitions IS 'The last 20 changes of each runner''s status.';
