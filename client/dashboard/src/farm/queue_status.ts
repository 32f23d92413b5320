/** What waits on the boards of one's own reservations: asked of their workers while somebody looks. */

import { type ReadonlySignal, signal } from "@preact/signals";
import { CallResults, check, QueueStatus } from "../bus/messages";
import type { Requests } from "../bus/requests";
import { CALL } from "../bus/topics";

/** Milliseconds between two questions. */
const ASK_EVERY = 3_000;

export interface Asked {
  readonly worker: string;
  readonly reservation: string;
  readonly serials: readonly string[];
}

export class QueueStatuses {
  private readonly known = signal<ReadonlyMap<string, QueueStatus>>(new Map());
  private asking = false;

  constructor(private readonly requests: Requests) {}

  get value(): ReadonlySignal<ReadonlyMap<string, QueueStatus>> {
    return this.known;
  }

  /** Ask these workers now and again until the function that is returned has been called. */
  follow(what: () => readonly Asked[]): () => void {
    const round = (): void => {
      if (!document.hidden && !this.asking) void this.round(what());
    };
    round();
    const timer = setInterval(round, ASK_EVERY);
    return () => clearInterval(timer);
  }

  private async round(asked: readonly Asked[]): Promise<void> {
    this.asking = true;
    const next = new Map<string, QueueStatus>();
    const answers = asked.map(async ({ worker, reservation, serials }) => {
      const ids = { worker, method: "status" };
      const rest = { reservation, serials };
      const { results } = await this.requests.ask(CALL, ids, worker, {}, CallResults, rest);
      for (const [serial, status] of Object.entries(results)) {
        next.set(serial, check(QueueStatus, status));
      }
    });
    // A kind that does not measure has no such method, and a worker may be away: nothing is known then.
    await Promise.allSettled(answers);
    this.asking = false;
    this.known.value = next;
  }
}
