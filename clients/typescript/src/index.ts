// Client of the GMQ message queue. link.ts is one connection, client.ts one that comes back, nodes.ts where to, queue.ts what can
// be asked, subscription.ts and message.ts what comes, protocol.ts what stands in lines.

export { connect, Client, type Ask, type Options } from "./client.ts";
export type { LinkOptions } from "./link.ts";
export type { NodeOptions } from "./nodes.ts";
export { Message, type NackOptions } from "./message.ts";
export { GmqError, type Code, type Counts, type Duration, type Explanation, type Hello, type Json, type QueueInfo, type QueueSummary, type Reply, type Request, type Settings, type Stored } from "./protocol.ts";
export { Queue, Topic, Reject, RetryAfter, type BatchMessage, type Published, type PublishOptions } from "./queue.ts";
export { Subscription, type Consume } from "./subscription.ts";
