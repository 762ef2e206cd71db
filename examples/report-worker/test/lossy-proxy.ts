// A TCP proxy that can lose a reply. Once armed, it forwards the next request that contains a
// text, waits for the answer, discards it and cuts the connection. By then the server has
// committed, but the client cannot know.

import { type NetConnectOpts, type Server, connect, createServer } from 'node:net';

export interface LossyProxy {
  server: Server;
  arm(text: string): void;
  /** The number of lost replies. */
  lost(): number;
}

export function createLossyProxy(upstream: NetConnectOpts): LossyProxy {
  let armedFor: string | undefined;
  let lost = 0;
  const server = createServer((client) => {
    const backend = connect(upstream);
    let losesReply = false;
    client.on('data', (request) => {
      if (armedFor !== undefined && request.includes(armedFor)) {
        armedFor = undefined;
        losesReply = true;
      }
      backend.write(request);
    });
    backend.on('data', (reply) => {
      if (losesReply) {
        lost += 1;
        client.destroy();
        backend.destroy();
      } else {
        client.write(reply);
      }
    });
    client.on('close', () => backend.destroy());
    backend.on('close', () => client.destroy());
    client.on('error', () => backend.destroy());
    backend.on('error', () => client.destroy());
  });
  return { server, arm: (text) => (armedFor = text), lost: () => lost };
}
