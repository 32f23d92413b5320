// A latch: a loop of gates that comes to rest.
module top (input CLK, output ICE_27);
    reg [9:0] c = 0;
    reg held;
    always @(posedge CLK) c <= c + 1;
    always @* if (c[4]) held = c[9];
    assign ICE_27 = held;
endmodule
