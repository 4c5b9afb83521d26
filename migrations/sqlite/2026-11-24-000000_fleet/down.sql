DROP TABLE runner_transitions;
DROP TABLE runner_labels;
DROP TABLE runners;
DROP TABLE registration_tokens;
DROP TABLE access_tokens;
DROP TABLE organization_members;
DROP TABLE users;
DROP TABLE scopes;
