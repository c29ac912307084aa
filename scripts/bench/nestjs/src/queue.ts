import { RmqOptions, Transport } from '@nestjs/microservices';

export const QUEUE = 'nest-request-queue';

/** The transport as in the NestJS documentation, with automatic acknowledgement, its fastest mode. */
export const rabbitmq: RmqOptions = {
  transport: Transport.RMQ,
  options: {
    urls: [process.env.AMQP_URL!],
    queue: QUEUE,
    queueOptions: { durable: true },
    prefetchCount: 1000,
    noAck: true,
  },
};

export interface CreateOrder {
  customer_id: string;
  items: { sku: string; quantity: number }[];
  metadata?: Record<string, string>;
}
