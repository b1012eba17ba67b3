"""What the gateway says of itself: its routes as data, and the OpenAPI document made of them."""
