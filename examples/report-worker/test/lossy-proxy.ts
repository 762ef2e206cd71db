// A TCP proxy that can lose a reply. Once armed, it forwards the next request, waits for
// the answer, discards it and cuts the connection. By then the server has committed, but
// the client cannot know.

import { type NetConnectOpts, type Server, connect, createServer } from 'node:net';

export interface LossyProxy {
  server: Server;
  arm(): void;
  /** The number of lost replies. */
  lost(): number;
}

export function createLossyProxy(upstream: NetConnectOpts): LossyProxy {
  let armed = false;
  let lost = 0;
  const server = createServer((client) => {
    const backend = connect(upstream);
    client.pipe(backend);
    backend.on('data', (reply) => {
      if (armed) {
        armed = false;
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
  return { server, arm: () => (armed = true), lost: () => lost };
}
