//! Users, organizations, repositories.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use secrecy::SecretString;

use crate::error::{AppError, Result};
use crate::fleet::NewUser;
use crate::graphql::context::ContextExt as _;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::types::{MemberRole, Organization, Repository, User};
use crate::model::ScopeKind;

#[derive(Default)]
pub(super) struct AccountMutations;

/// What `createUser` takes.
#[derive(InputObject)]
struct CreateUserInput {
    /// The name in addresses: letters and digits with single `-`, `_` or `.` between, unique without regard to case.
    login: String,
    /// The name as it is shown.
    name: String,
    /// For signing in, 8 characters or more; without one, the user only uses access tokens.
    password: Option<String>,
    /// Whether the user administers the instance (false unless said).
    is_admin: Option<bool>,
}

/// What `createUser` returns.
#[derive(SimpleObject)]
struct CreateUserPayload {
    /// The new user.
    user: User,
}

/// What `createOrganization` takes.
#[derive(InputObject)]
struct CreateOrganizationInput {
    /// The name in addresses: letters and digits with single `-`, `_` or `.` between, unique without regard to case.
    login: String,
    /// The name as it is shown.
    name: String,
}

/// What `createOrganization` returns.
#[derive(SimpleObject)]
struct CreateOrganizationPayload {
    /// The new organization.
    organization: Organization,
}

/// What `addOrganizationMember` takes.
#[derive(InputObject)]
struct AddOrganizationMemberInput {
    /// The organization's login.
    organization: String,
    /// The user's login.
    user: String,
    /// What the user may do there.
    role: MemberRole,
}

/// What `addOrganizationMember` returns.
#[derive(SimpleObject)]
struct AddOrganizationMemberPayload {
    /// The organization.
    organization: Organization,
}

/// What `removeOrganizationMember` takes.
#[derive(InputObject)]
struct RemoveOrganizationMemberInput {
    /// The organization's login.
    organization: String,
    /// The user's login.
    user: String,
}

/// What `removeOrganizationMember` returns.
#[derive(SimpleObject)]
struct RemoveOrganizationMemberPayload {
    /// The organization.
    organization: Organization,
}

/// What `createRepository` takes.
#[derive(InputObject)]
struct CreateRepositoryInput {
    /// The login of the user or organization it will belong to.
    owner: String,
    /// The name: letters, digits, `-`, `_` and `.`, unique within the owner without regard to case.
    name: String,
}

/// What `createRepository` returns.
#[derive(SimpleObject)]
struct CreateRepositoryPayload {
    /// The new repository.
    repository: Repository,
}

/// What `deleteUser` takes.
#[derive(InputObject)]
struct DeleteUserInput {
    /// The user's login.
    login: String,
}

/// What `deleteUser` returns.
#[derive(SimpleObject)]
struct DeleteUserPayload {
    /// The id of what is gone.
    deleted_id: ID,
}

/// What `deleteOrganization` takes.
#[derive(InputObject)]
struct DeleteOrganizationInput {
    /// The organization's login.
    login: String,
}

/// What `deleteOrganization` returns.
#[derive(SimpleObject)]
struct DeleteOrganizationPayload {
    /// The id of what is gone.
    deleted_id: ID,
}

/// What `deleteRepository` takes.
#[derive(InputObject)]
struct DeleteRepositoryInput {
    /// The login of the user or organization it belongs to.
    owner: String,
    /// Its name within the owner.
    name: String,
}

/// What `deleteRepository` returns.
#[derive(SimpleObject)]
struct DeleteRepositoryPayload {
    /// The id of what is gone.
    deleted_id: ID,
}

#[Object]
impl AccountMutations {
    /// Makes a user. For administrators.
    async fn create_user(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The user to make.")] input: CreateUserInput,
    ) -> Result<CreateUserPayload, AppError> {
        let request = context.request();
        let user = NewUser {
            login: input.login,
            name: input.name,
            password: input.password.map(SecretString::from),
            is_admin: input.is_admin.unwrap_or(false),
        };
        let user = request.fleet.create_user(&request.actor(), user).await?.into();
        Ok(CreateUserPayload { user })
    }

    /// Makes an organization, whose first owner the caller becomes. For every user.
    async fn create_organization(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The organization to make.")] input: CreateOrganizationInput,
    ) -> Result<CreateOrganizationPayload, AppError> {
        let request = context.request();
        let organization = request.fleet.create_organization(&request.actor(), &input.login, &input.name).await?.into();
        request.refresh_actor().await;
        Ok(CreateOrganizationPayload { organization })
    }

    /// Makes a user a member of an organization, or gives a member another role. For its owners.
    async fn add_organization_member(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Who becomes what, and where.")] input: AddOrganizationMemberInput,
    ) -> Result<AddOrganizationMemberPayload, AppError> {
        let request = context.request();
        let organization = request
            .fleet
            .add_organization_member(&request.actor(), &input.organization, &input.user, input.role.into())
            .await?
            .into();
        request.refresh_actor().await;
        Ok(AddOrganizationMemberPayload { organization })
    }

    /// Ends a membership. For the organization's owners, and for members who leave.
    async fn remove_organization_member(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Who is to leave, and what.")] input: RemoveOrganizationMemberInput,
    ) -> Result<RemoveOrganizationMemberPayload, AppError> {
        let request = context.request();
        let organization =
            request.fleet.remove_organization_member(&request.actor(), &input.organization, &input.user).await?.into();
        request.refresh_actor().await;
        Ok(RemoveOrganizationMemberPayload { organization })
    }

    /// Makes a repository. For its owner: the user itself, or an owner of the organization.
    async fn create_repository(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The repository to make.")] input: CreateRepositoryInput,
    ) -> Result<CreateRepositoryPayload, AppError> {
        let request = context.request();
        let repository = request.fleet.create_repository(&request.actor(), &input.owner, &input.name).await?.into();
        Ok(CreateRepositoryPayload { repository })
    }

    /// Deletes a user with its repositories and everything that belongs to them, runners included. For administrators and the
    /// user itself.
    async fn delete_user(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The user to delete.")] input: DeleteUserInput,
    ) -> Result<DeleteUserPayload, AppError> {
        let request = context.request();
        let id = request.fleet.delete_account(&request.actor(), &input.login, ScopeKind::User).await?;
        Ok(DeleteUserPayload { deleted_id: encode(NodeKind::User, id) })
    }

    /// Deletes an organization with its repositories and everything that belongs to them, runners included. For
    /// administrators and its owners.
    async fn delete_organization(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The organization to delete.")] input: DeleteOrganizationInput,
    ) -> Result<DeleteOrganizationPayload, AppError> {
        let request = context.request();
        let id = request.fleet.delete_account(&request.actor(), &input.login, ScopeKind::Organization).await?;
        Ok(DeleteOrganizationPayload { deleted_id: encode(NodeKind::Organization, id) })
    }

    /// Deletes a repository with everything that belongs to it, runners included. For administrators and its owner.
    async fn delete_repository(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The repository to delete.")] input: DeleteRepositoryInput,
    ) -> Result<DeleteRepositoryPayload, AppError> {
        let request = context.request();
        let id = request.fleet.delete_repository(&request.actor(), &input.owner, &input.name).await?;
        Ok(DeleteRepositoryPayload { deleted_id: encode(NodeKind::Repository, id) })
    }
}
