import 'reflect-metadata';
import { Body, Controller, Inject, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxy, ClientsModule } from '@nestjs/microservices';
import { CreateOrder, rabbitmq } from './queue';

@Controller('v1/orders')
class OrdersController {
  constructor(@Inject('ORDERS') private readonly orders: ClientProxy) {}

  @Post()
  create(@Body() order: CreateOrder) {
    return this.orders.send('order.create', order);
  }
}

@Module({
  imports: [ClientsModule.register([{ name: 'ORDERS', ...rabbitmq }])],
  controllers: [OrdersController],
})
class GatewayModule {}

async function main() {
  const app = await NestFactory.create(GatewayModule, { logger: ['error', 'warn'] });
  const [host, port] = process.env.HTTP_ADDR!.split(':');
  await app.listen(Number(port), host);
}

void main();
