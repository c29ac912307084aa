-- Products with a threshold of low stock, which the dashboard compares with their stock.
CREATE INDEX products_with_threshold ON products (sku)
    WHERE NOT is_deleted AND instr(state, '"low_stock_at":') > 0;
