-- Products with a threshold of low stock, which the dashboard compares with their stock.
CREATE INDEX CONCURRENTLY products_with_threshold ON products (sku)
    WHERE NOT is_deleted AND strpos(state, '"low_stock_at":') > 0;
