-- The search key of a runner's description, in lower case as the server writes it.
ALTER TABLE runners ADD COLUMN description_key TEXT NOT NULL DEFAULT '';
UPDATE runners SET description_key = lower(description);
-- When an ephemeral runner took the one task that it gets.
ALTER TABLE runners ADD COLUMN used_at BIGINT;
CREATE INDEX runners_ephemeral ON runners (id) WHERE ephemeral;

-- Sets of labels as paths in a tree, each set in alphabetical order: a runner reaches the sets that it covers by following its
-- own labels down from the root (0), and never looks at a task that it cannot run.
CREATE TABLE label_nodes (
    id BIGINT PRIMARY KEY NOT NULL,
    parent_id BIGINT NOT NULL,
    label TEXT NOT NULL,
    -- When a task was last queued with a set that goes through here. What is older than tasks may wait is passed over, and removed.
    used_at BIGINT NOT NULL DEFAULT 9223372036854775807,
    UNIQUE (parent_id, label)
);

CREATE TABLE tasks (
    id BIGINT PRIMARY KEY NOT NULL,
    repository_id BIGINT NOT NULL REFERENCES scopes (id) ON DELETE CASCADE,
    -- The account above: who may see a task is decided by this column alone.
    owner_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    -- Labels with commas between, in alphabetical order; and the node where that path ends.
    labels TEXT NOT NULL,
    label_node BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('QUEUED', 'RUNNING', 'CANCELLING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    failure_reason TEXT,
    -- Why a running task is to stop.
    stop_cause TEXT CHECK (stop_cause IN ('REQUESTED', 'TIMEOUT')),
    -- Who runs it or ran it last. No reference: a task outlives its runner and still names it.
    runner_id BIGINT,
    runner_name TEXT,
    runner_uuid TEXT,
    attempt BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    timeout_seconds BIGINT NOT NULL,
    -- When the server has to look at it even if nobody calls: it has waited, run, or been stopping for too long.
    due_at BIGINT,
    -- Until when its runner may still deliver log lines and outputs after the end; 0: not at all.
    reports_until BIGINT NOT NULL,
    -- The number of the first log line of this attempt, and of the next line.
    log_base BIGINT NOT NULL,
    log_lines BIGINT NOT NULL,
    log_bytes BIGINT NOT NULL,
    log_truncated BOOLEAN NOT NULL,
    log_final BOOLEAN NOT NULL,
    created_by BIGINT REFERENCES users (id) ON DELETE SET NULL,
    created_at BIGINT NOT NULL,
    queued_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    updated_at BIGINT NOT NULL,
    -- Grows with each change of where it stands: of two records the greater is the newer.
    revision BIGINT NOT NULL DEFAULT 0
);
-- The queue, for runners of the instance, of an account, and of a repository.
CREATE INDEX tasks_queue ON tasks (label_node, priority DESC, id) WHERE status = 'QUEUED';
CREATE INDEX tasks_queue_owner ON tasks (owner_id, label_node, priority DESC, id) WHERE status = 'QUEUED';
CREATE INDEX tasks_queue_repository ON tasks (repository_id, label_node, priority DESC, id) WHERE status = 'QUEUED';
CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_held ON tasks (runner_id) WHERE status IN ('RUNNING', 'CANCELLING');
-- Lists.
CREATE INDEX tasks_status ON tasks (status, id);
CREATE INDEX tasks_owner ON tasks (owner_id, id);
CREATE INDEX tasks_owner_status ON tasks (owner_id, status, id);
CREATE INDEX tasks_repository ON tasks (repository_id, id);
CREATE INDEX tasks_repository_status ON tasks (repository_id, status, id);
CREATE INDEX tasks_runner ON tasks (runner_id, id);
CREATE INDEX tasks_creator ON tasks (created_by);
CREATE INDEX tasks_finished ON tasks (finished_at, id) WHERE finished_at IS NOT NULL;

-- Who was given a task, also when it was taken away again.
CREATE TABLE task_attempts (
    task_id BIGINT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    runner_id BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    PRIMARY KEY (task_id, attempt)
);

-- Apart from the task, since lists do not show it.
CREATE TABLE task_payloads (
    task_id BIGINT PRIMARY KEY NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    payload TEXT NOT NULL
);

CREATE TABLE task_outputs (
    task_id BIGINT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (task_id, name)
);

-- What one call appended; the lines of a chunk are separated by line feeds, which no line has.
CREATE TABLE task_log_chunks (
    task_id BIGINT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    first_line BIGINT NOT NULL,
    line_count BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (task_id, first_line)
);

CREATE TABLE cleanup_jobs (
    id BIGINT PRIMARY KEY NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    -- Names of targets with commas between, in the order in which they are worked on.
    targets TEXT NOT NULL,
    scope_id BIGINT NOT NULL REFERENCES scopes (id) ON DELETE CASCADE,
    -- The account above the scope, or the instance: who may see a job is decided by this column alone.
    owner_id BIGINT NOT NULL,
    older_than_seconds BIGINT,
    dry_run BOOLEAN NOT NULL,
    examined BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    total BIGINT,
    -- What was done for each target so far, as JSON.
    results TEXT NOT NULL,
    -- Where to go on: which target, and the last row of it that was looked at.
    target_number BIGINT NOT NULL,
    row_cursor BIGINT NOT NULL,
    error TEXT,
    started_by BIGINT REFERENCES users (id) ON DELETE SET NULL,
    is_scheduled BOOLEAN NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    -- Who works on it, and until when that holds without another sign of life.
    lease_holder TEXT,
    lease_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX cleanup_jobs_open ON cleanup_jobs (id) WHERE finished_at IS NULL;
CREATE INDEX cleanup_jobs_scope ON cleanup_jobs (scope_id, id);
CREATE INDEX cleanup_jobs_owner ON cleanup_jobs (owner_id, id);
CREATE INDEX cleanup_jobs_starter ON cleanup_jobs (started_by);

-- One open job for a target and scope.
CREATE TABLE cleanup_locks (
    target TEXT NOT NULL,
    scope_id BIGINT NOT NULL,
    job_id BIGINT NOT NULL REFERENCES cleanup_jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (scope_id, target)
);
CREATE INDEX cleanup_locks_job ON cleanup_locks (job_id);
