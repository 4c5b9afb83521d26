// Queries and mutations go over HTTP, subscriptions over WebSocket; both show what is written under "Headers". For a WebSocket
// they travel in the connection_init payload, since a browser cannot set headers on one.
(() => {
  'use strict';
  const socketUrl = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`;
  let open = { key: null, client: null };

  function clientFor(headers) {
    const key = JSON.stringify(headers);
    if (open.key !== key) {
      open.client?.dispose();
      open = { key, client: graphqlWs.createClient({ url: socketUrl, connectionParams: headers, retryAttempts: 0 }) };
    }
    return open.client;
  }

  function operationOf(document, name) {
    const operations = document.definitions.filter((definition) => definition.kind === 'OperationDefinition');
    return operations.find((operation) => !name || operation.name?.value === name) ?? operations[0];
  }

  async function post(request, headers) {
    const response = await fetch('/graphql', {
      method: 'POST',
      headers: { accept: 'application/json', 'content-type': 'application/json', ...headers },
      body: JSON.stringify(request),
    });
    return response.json();
  }

  function fetcher(request, options) {
    const headers = options?.headers ?? {};
    const operation = options?.documentAST && operationOf(options.documentAST, request.operationName);
    if (operation?.operation !== 'subscription') {
      return post(request, headers);
    }
    return clientFor(headers).iterate(request);
  }

  const hello = `# Welcome to Rollcall.
#
# Write your access token under "Headers" below, then press the play button:
#   { "Authorization": "Bearer rc_pat_…" }

query Fleet {
  viewer { __typename ... on User { login isAdmin } }
  runners(first: 10, orderBy: { field: NAME, direction: ASC }) {
    totalCount
    nodes { name status statusSince lastOnlineAt labels scope { path } }
  }
}

subscription Watch {
  runnerStatusChanged { runner { name } previous current at }
}
`;

  const element = React.createElement(GraphiQL, {
    fetcher,
    defaultQuery: hello,
    defaultEditorToolsVisibility: 'headers',
    shouldPersistHeaders: false,
  });
  ReactDOM.createRoot(document.getElementById('graphiql')).render(element);
})();
