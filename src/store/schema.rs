#![expect(missing_docs, reason = "the macro makes modules and types that cannot be documented")]
//! The tables, in the types that both databases share.

diesel::table! {
    scopes (id) {
        id -> BigInt,
        kind -> Text,
        parent_id -> Nullable<BigInt>,
        path -> Text,
        path_key -> Text,
        name -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    users (id) {
        id -> BigInt,
        password_hash -> Nullable<Text>,
        is_admin -> Bool,
    }
}

diesel::table! {
    organization_members (organization_id, user_id) {
        organization_id -> BigInt,
        user_id -> BigInt,
        role -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    access_tokens (id) {
        id -> BigInt,
        user_id -> BigInt,
        name -> Text,
        scopes -> Text,
        token_hash -> Text,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    registration_tokens (id) {
        id -> BigInt,
        scope_id -> BigInt,
        description -> Text,
        token_hash -> Text,
        ephemeral_only -> Bool,
        max_uses -> Nullable<BigInt>,
        use_count -> BigInt,
        allowed_cidrs -> Text,
        labels -> Text,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        revoked_reason -> Nullable<Text>,
        last_used_at -> Nullable<BigInt>,
        last_used_from -> Nullable<Text>,
        created_by -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    runners (id) {
        id -> BigInt,
        uuid -> Text,
        scope_id -> BigInt,
        owner_id -> BigInt,
        name -> Text,
        name_key -> Text,
        description -> Text,
        description_key -> Text,
        note -> Text,
        version -> Nullable<Text>,
        os -> Nullable<Text>,
        arch -> Nullable<Text>,
        ephemeral -> Bool,
        disabled -> Bool,
        machine_id -> Nullable<Text>,
        token_hash -> Text,
        token_generation -> BigInt,
        token_issued_at -> BigInt,
        previous_token_hash -> Nullable<Text>,
        previous_valid_until -> Nullable<BigInt>,
        registered_with -> Nullable<BigInt>,
        registered_from -> Nullable<Text>,
        last_online_at -> BigInt,
        last_active_at -> BigInt,
        status -> Text,
        status_since -> BigInt,
        transition_count -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    runner_labels (runner_id, label) {
        runner_id -> BigInt,
        label -> Text,
        forced -> Bool,
    }
}

diesel::table! {
    runner_transitions (runner_id, slot) {
        runner_id -> BigInt,
        slot -> BigInt,
        number -> BigInt,
        at -> BigInt,
        from_status -> Text,
        to_status -> Text,
        cause -> Text,
    }
}

diesel::table! {
    label_nodes (id) {
        id -> BigInt,
        parent_id -> BigInt,
        label -> Text,
        used_at -> BigInt,
    }
}

diesel::table! {
    tasks (id) {
        id -> BigInt,
        repository_id -> BigInt,
        owner_id -> BigInt,
        name -> Text,
        name_key -> Text,
        labels -> Text,
        label_node -> BigInt,
        priority -> BigInt,
        status -> Text,
        failure_reason -> Nullable<Text>,
        stop_cause -> Nullable<Text>,
        runner_id -> Nullable<BigInt>,
        runner_name -> Nullable<Text>,
        runner_uuid -> Nullable<Text>,
        attempt -> BigInt,
        max_attempts -> BigInt,
        timeout_seconds -> BigInt,
        due_at -> Nullable<BigInt>,
        reports_until -> BigInt,
        log_base -> BigInt,
        log_lines -> BigInt,
        log_bytes -> BigInt,
        log_truncated -> Bool,
        log_final -> Bool,
        created_by -> Nullable<BigInt>,
        created_at -> BigInt,
        queued_at -> BigInt,
        started_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
        updated_at -> BigInt,
        revision -> BigInt,
    }
}

diesel::table! {
    task_attempts (task_id, attempt) {
        task_id -> BigInt,
        attempt -> BigInt,
        runner_id -> BigInt,
        started_at -> BigInt,
    }
}

diesel::table! {
    task_payloads (task_id) {
        task_id -> BigInt,
        payload -> Text,
    }
}

diesel::table! {
    task_outputs (task_id, name) {
        task_id -> BigInt,
        name -> Text,
        value -> Text,
    }
}

diesel::table! {
    task_log_chunks (task_id, first_line) {
        task_id -> BigInt,
        first_line -> BigInt,
        line_count -> BigInt,
        at -> BigInt,
        body -> Text,
    }
}

diesel::table! {
    cleanup_jobs (id) {
        id -> BigInt,
        status -> Text,
        targets -> Text,
        scope_id -> BigInt,
        owner_id -> BigInt,
        older_than_seconds -> Nullable<BigInt>,
        dry_run -> Bool,
        examined -> BigInt,
        deleted -> BigInt,
        total -> Nullable<BigInt>,
        results -> Text,
        target_number -> BigInt,
        row_cursor -> BigInt,
        error -> Nullable<Text>,
        started_by -> Nullable<BigInt>,
        is_scheduled -> Bool,
        cancel_requested -> Bool,
        lease_holder -> Nullable<Text>,
        lease_until -> BigInt,
        created_at -> BigInt,
        started_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    cleanup_locks (scope_id, target) {
        target -> Text,
        scope_id -> BigInt,
        job_id -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    scopes,
    users,
    organization_members,
    access_tokens,
    registration_tokens,
    runners,
    runner_labels,
    runner_transitions,
    label_nodes,
    tasks,
    task_attempts,
    task_payloads,
    task_outputs,
    task_log_chunks,
    cleanup_jobs,
    cleanup_locks,
);
