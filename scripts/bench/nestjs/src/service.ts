import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { Controller, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MessagePattern, MicroserviceOptions, Payload } from '@nestjs/microservices';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryColumn } from 'typeorm';
import { CreateOrder, rabbitmq } from './queue';

@Entity()
class Product {
  @PrimaryColumn() sku: string;
  @Column() price: number;
  @Column() on_hand: number;
  @Column() reserved: number;
}

@Entity()
class Order {
  @PrimaryColumn('uuid') id: string;
  @Column('uuid') customer_id: string;
  @Column() status: string;
  @Column() total: number;
  @Column('jsonb') items: object;
  @Column('jsonb') metadata: object;
}

abstract class Orders {
  abstract create(request: CreateOrder): Promise<Order>;

  protected order(request: CreateOrder, total: number): Order {
    const { customer_id, items, metadata = {} } = request;
    return { id: randomUUID(), customer_id, status: 'pending', total, items, metadata };
  }
}

/** Orders in memory; lost when the process ends. */
@Injectable()
class OrdersInMemory extends Orders {
  private readonly orders = new Map<string, Order>();

  async create(request: CreateOrder) {
    const order = this.order(request, 1000 * request.items.length);
    this.orders.set(order.id, order);
    return order;
  }
}

/** One transaction for each order. A conditional update reserves the stock. */
@Injectable()
class OrdersInPostgres extends Orders {
  constructor(private readonly database: DataSource) {
    super();
  }

  create(request: CreateOrder) {
    return this.database.transaction(async (manager) => {
      let total = 0;
      for (const { sku, quantity } of [...request.items].sort((a, b) => a.sku.localeCompare(b.sku))) {
        const product = await manager.findOneByOrFail(Product, { sku });
        total += product.price * quantity;
        const reserved = await manager
          .createQueryBuilder()
          .update(Product)
          .set({ reserved: () => 'reserved + :quantity' })
          .where('sku = :sku AND on_hand - reserved >= :quantity', { sku, quantity })
          .execute();
        if (reserved.affected !== 1) throw new Error(`out of stock: ${sku}`);
      }
      const order = this.order(request, total);
      await manager.insert(Order, order as never);
      return order;
    });
  }
}

@Controller()
class OrdersController {
  constructor(private readonly orders: Orders) {}

  @MessagePattern('order.create')
  create(@Payload() request: CreateOrder) {
    return this.orders.create(request);
  }
}

const url = process.env.DATABASE_URL;
const database = TypeOrmModule.forRoot({
  type: 'postgres',
  url,
  entities: [Order, Product],
  synchronize: true,
  poolSize: 20,
});

@Module({
  imports: url ? [database] : [],
  controllers: [OrdersController],
  providers: [{ provide: Orders, useClass: url ? OrdersInPostgres : OrdersInMemory }],
})
class ServiceModule {}

async function main() {
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(ServiceModule, {
    ...rabbitmq,
    logger: ['error', 'warn'],
  });
  if (url) {
    const products = Array.from({ length: 100 }, (_, n) => ({
      sku: `S${n}`,
      price: 1000,
      on_hand: 1_000_000_000,
      reserved: 0,
    }));
    await app.get(DataSource).getRepository(Product).upsert(products, ['sku']);
  }
  await app.listen();
  console.log('serving');
}

void main();
