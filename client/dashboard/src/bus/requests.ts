/** Requests and their answers: asked again under one id until a deadline, answered once. */

import type * as v from "valibot";
import { type Connection, randomId } from "./connection";
import { check, decode, Reply } from "./messages";
import { type Family, type Ids, REPLY, spell } from "./topics";

/** Milliseconds until a request that was not answered is sent again, and until it has failed. */
const ASK_AGAIN = 2_000;
const DEADLINE = 15_000;

/** MQTT's reason code for what the access list forbids. */
const NOT_AUTHORISED = 0x87;

/** A request that was refused or never answered. `code` is stable; the message is for people. */
export class FarmError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

interface Pending {
  settle(reply: Reply): void;
}

export class Requests {
  private readonly pending = new Map<string, Pending>();

  constructor(private readonly connection: Connection) {
    // Never released: as long as there is a connection somebody may ask something.
    connection.need(spell(REPLY, { user: connection.user, client: connection.clientId }), 1);
  }

  /** What was answered to a request; throws a `FarmError`. `sender` is who will answer. */
  async ask<T extends v.GenericSchema>(
    family: Family,
    ids: Ids,
    sender: string,
    args: Record<string, unknown>,
    answer: T,
    envelope: Record<string, unknown> = {},
  ): Promise<v.InferOutput<T>> {
    const id = randomId();
    const topic = spell(family, { user: this.connection.user, ...ids });
    const reply = await this.send(topic, sender, id, JSON.stringify({ id, ...envelope, args }));
    if (reply.error) throw new FarmError(reply.error.code, reply.error.message);
    try {
      return check(answer, reply.ok);
    } catch (error) {
      throw new FarmError("bad_answer", `${sender} answered something else: ${said(error)}`);
    }
  }

  /** Take a message on a reply topic. */
  onReply(payload: Uint8Array): void {
    const reply = decode(Reply, payload);
    this.pending.get(reply.id)?.settle(reply);
  }

  private send(topic: string, sender: string, id: string, payload: string): Promise<Reply> {
    const { connection } = this;
    const ends = Date.now() + DEADLINE;
    const properties = {
      responseTopic: connection.absolute(
        spell(REPLY, { user: connection.user, client: connection.clientId, sender }),
      ),
      correlationData: new TextEncoder().encode(id),
      messageExpiryInterval: Math.ceil(DEADLINE / 1000),
      contentType: "application/json",
    };
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearInterval(again);
        this.pending.delete(id);
      };
      const fail = (error: FarmError): void => {
        finish();
        reject(error);
      };
      const attempt = (): void => {
        if (Date.now() >= ends) {
          const who = connection.link.value.phase === "online" ? sender : "the broker";
          fail(new FarmError("no_answer", `${who} did not answer within ${DEADLINE / 1000} s`));
          return;
        }
        connection.publish(topic, payload, properties).catch((error: unknown) => {
          if (reasonCode(error) === NOT_AUTHORISED && this.pending.has(id)) {
            fail(new FarmError("permission_denied", "The broker does not let you do that."));
          }
        });
      };
      this.pending.set(id, {
        settle(reply) {
          finish();
          resolve(reply);
        },
      });
      const again = setInterval(attempt, ASK_AGAIN);
      attempt();
    });
  }
}

function reasonCode(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "number" ? code : undefined;
}

/** What an error says, for people. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
